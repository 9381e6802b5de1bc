"""The model: routed layers, encoder, tokens, head, the whole of them, and the form that is deployed."""
