#!/bin/sh
# Run a command in the worker's image, with the image's models in the model cache. The cache is a
# volume, which outlives the image: links to models that the image no longer has are removed.
set -eu
mkdir -p "$HF_HOME/hub"
find "$HF_HOME/hub" -maxdepth 1 -xtype l -delete
for model in /opt/models/hub/models--*; do
    [ ! -d "$model" ] || [ -e "$HF_HOME/hub/${model##*/}" ] || ln -sf "$model" "$HF_HOME/hub/"
done
exec "$@"
