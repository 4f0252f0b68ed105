"""Check the language of the documentation: sentences that are short, and phrases that read well."""
