"""How training jobs are executed, whatever trains them: threads and processes of this machine, a Dask cluster, worker programs."""
