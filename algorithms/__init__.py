"""The methods: networks, action structure model, policies, objectives, RLlib classes."""
