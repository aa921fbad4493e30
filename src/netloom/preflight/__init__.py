"""Preflight: whether pods will have a network on this host, and what stands in the way.

    reading  →  Facts  →  judge  →  findings by check

facts        frozen values: what kernel, files and cluster say, or why a thing could not be found out
reading      a thin reader: looks, and decides nothing
probing      what the kernel can do, tried out in a network namespace of its own
judging      the table of checks, each a pure function of the facts
kernel, firewalls, others, limits, installed       the checks, by what they look at
"""
