"""What the readers of data sets share: archives, downloads, photographs, MATLAB structs."""
