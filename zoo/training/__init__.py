"""One trainer for every kind of model: what is learnt is an objective, what is read is a data set."""
