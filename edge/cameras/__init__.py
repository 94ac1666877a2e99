"""Where frames come from: files, streams and devices, each a `Camera`."""
