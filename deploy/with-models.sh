#!/bin/sh
# Run a command in the worker's image, with the image's models linked into the model cache. The
# cache is a volume that outlives the image, so links to models no longer in the image are removed.
set -eu
mkdir -p "$HF_HOME/hub"
find "$HF_HOME/hub" -maxdepth 1 -xtype l -delete
for model in /opt/models/hub/models--*; do
    [ ! -d "$model" ] || [ -e "$HF_HOME/hub/${model##*/}" ] || ln -sf "$model" "$HF_HOME/hub/"
done
exec "$@"
