"""Execution of training jobs, independent of the framework: threads and processes on this machine, a Dask cluster, worker programs."""
