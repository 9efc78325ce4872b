"""Any OpenAI-compatible endpoint, asked many things at once: for those who judge and those who answer."""
