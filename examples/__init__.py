"""Programs and data that show how to use rerankq."""
