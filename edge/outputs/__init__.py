"""Where inspections go: each output is a model of its settings and the sink that it opens."""
