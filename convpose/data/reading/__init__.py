"""Tools of the readers: archives, downloads, photographs, annotation files, people."""
