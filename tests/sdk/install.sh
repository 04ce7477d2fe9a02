#!/bin/sh
# Put the npm packages that the SDK tests drive into the folder $1, unless they are there. Needs npm.
set -eu
folder=$1
test -d "$folder/node_modules/centrifuge" && test -d "$folder/node_modules/ws" && exit 0
mkdir -p "$folder"
cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" centrifuge@5.8.0 ws@8 >&2
