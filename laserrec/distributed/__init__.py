"""Several machines instead of one: training, evaluation and recommendations on a Ray cluster."""
