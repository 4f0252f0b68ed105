"""The clients: submit jobs, await their results, manage dead letters."""
