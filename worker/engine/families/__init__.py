"""The model families with a fast path: what differs between them, one module for each.

A family says which models it computes and returns their network. What the networks share is in
`worker.engine.post_norm` and `worker.engine.layers`. To add a family, add a module with a `Family`,
and list it in `worker.engine.families.registry`.
"""
