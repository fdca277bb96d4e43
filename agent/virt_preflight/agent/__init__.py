"""One host: learns its facts, answers for itself, changes nothing."""
