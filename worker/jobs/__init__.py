"""One job from message to outcome."""
