"""What the browser shows: dashboard, overlay for OBS, JSON API, figures for Prometheus.

* `server`: WebServer, the thread that answers; a component.
* `security`: who is let in, and how often somebody was not.
* `site`: puts the parts together.
* `api`: the state as JSON, and the controls.

Importing this room costs nothing: what answers is imported where it is used.
"""
