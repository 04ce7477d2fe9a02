#!/bin/sh
# Put the npm packages that the SDK tests drive into the folder $1, unless they are there. Needs npm.
set -eu
folder=$1
modules=$folder/node_modules
test -d "$modules/centrifuge" && test -d "$modules/ws" && test -d "$modules/eventsource" && exit 0
mkdir -p "$folder"
cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" centrifuge@5.8.0 ws@8 eventsource@3 >&2
