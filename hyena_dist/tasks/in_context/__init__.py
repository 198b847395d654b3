"""In-context learning: a language model names the class of a sequence by a letter that follows it."""
