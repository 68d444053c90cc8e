#!/bin/sh
# What Ray Serve starts as HAProxy in the image: it amends the configuration, then becomes HAProxy.
exec python -P -m cluster.service.haproxy "$@"
