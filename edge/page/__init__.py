"""The live page: what it knows of the line, who may see it, and the server that answers browsers and machines."""
