"""The model: routed layers, encoder, tokens, head, the whole network, and the form that is deployed."""
