"""Studies: one file an entry point, from a configuration and a `Tracker` to a result. The only place that knows the whole order."""
