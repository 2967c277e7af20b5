"""The scenario and its sample faces; its station key is valid only for galleries made as demo."""
