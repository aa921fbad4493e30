"""Netloom: a Kubernetes cluster network.  resources → desired → changes → kernel."""

__version__ = "0.1.0"
