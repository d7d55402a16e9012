"""Millions of pictures, each exactly once: `pahi-rt bulk PROMPTS OUT`, on this machine or on a Ray cluster.

sources.py      files of prompts, local or in an object store -> rows, streamed
shards.py       rows -> shards, the units of work
artist.py       a shard's rows -> pictures, encoded
formats.py      pictures -> the files of a shard; layout.py names them
store.py        puts a shard's files into the output, whole or not at all
record.py       the run's record, which refuses to be resumed under other settings
job.py          the straight line: sources -> shards -> crew -> store
local.py, on_ray.py   crews: who draws the shards
"""
