"""Hugging Face: configuration, models and tokenizer that AutoModel and AutoTokenizer find, and folders for the Hub."""
