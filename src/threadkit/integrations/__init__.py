"""threadkit and other systems, one module for each; imported by their own names.

* `prometheus`: a manager's figures for Prometheus (the extra `prometheus`).
"""
