"""`python -m convpose.export`: files that are enough by themselves, or no file at all."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import export_config

from convpose.errors import ConfigError, ModelError
from convpose.exporting import command, on_demand
from convpose.exporting.command import export
from convpose.exporting.parity import synthetic_crops
from convpose.inference.engines import open_network
from convpose.inference.packaged import pack
from convpose.inference.runtimes.exported import KEY
from convpose.models.weights import read_weights
