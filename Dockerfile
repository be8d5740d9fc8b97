# docker build -t convpose .                                  without CUDA
# docker build -t convpose:gpu --build-arg TORCH=cu130 .      with the CUDA that comes with PyTorch
FROM python:3.13-slim AS build
ARG TORCH=cpu
ARG EXTRAS=onnx
COPY . /src
RUN pip install --no-cache-dir uv \
    && uv venv /opt/convpose \
    && VIRTUAL_ENV=/opt/convpose uv pip install --no-cache --torch-backend=$TORCH "/src[$EXTRAS]"

FROM python:3.13-slim
COPY --from=build /opt/convpose /opt/convpose
ENV PATH=/opt/convpose/bin:$PATH
# the user of the host may be any: docker run --user "$(id -u):$(id -g)"
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
ENTRYPOINT ["convpose"]
