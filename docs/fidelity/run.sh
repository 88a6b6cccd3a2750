#!/usr/bin/env bash
# The runs behind docs/fidelity.md, on one machine with one or more NVIDIA GPUs (about 15 minutes on two H100s):
#
#     bash docs/fidelity/run.sh MODELS DATA TEXT OUT
#
# MODELS: folder of the embedded model. DATA: qa_dev.jsonl.gz and .txt essays. TEXT: what to train on. OUT: gets
# adapters, JSON and tables; everything is written as soon as it is there.
set -euo pipefail
models=$1 data=$2 text=$3 out=$4
steps=${STEPS:-500} limit=${LIMIT:-8} workers=${WORKERS:-16}
gpus=$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')
mkdir -p "$out"

# Tokens once, so that the trainings find them.
python -m engine.training.adapt --model embedded --models "$models" --text "$text" --out "$out/tokens" --steps 1 --length 1024 --dense

# Maps for savings that do not ship with the project.
python -m engine.training.sharing.map_fit --model embedded --models "$models" --saving 0.4 0.45 --samples 12 --tokens 4096 --out "$models"

number=0
train() { # NAME OPTIONS...: on the next GPU, beside the others
  local name=$1 gpu=$((number++ % gpus))
  shift
  mkdir -p "$out/$name" && cp "$out"/tokens/tokens-*.npz "$out/$name"
  (CUDA_VISIBLE_DEVICES=$gpu python -m engine.training.adapt --model embedded --models "$models" --text "$text" \
    --out "$out/$name" --evaluate-every 0 "$@" >"$out/$name.log" 2>&1 &&
    cp "$out/$name"/*.safetensors "$models/$name.safetensors") &
}
for seed in 0 1 2; do
  train "linear35-$seed" --mode linear --seed "$seed" --steps "$steps"
  train "A35-$seed" --mode A --seed "$seed" --steps "$steps"
  train "dense-$seed" --dense --seed "$seed" --steps "$steps"
done
train linear45-0 --mode linear --plan-saving 0.45 --steps "$steps"
train B35-0 --mode B --steps "$steps"
train A35-rounded --mode A --rounded k4v4h --steps "$steps"
train A35-near64 --mode A --n-recent 64 --steps "$steps"
train A35-paper --mode A --asked 0 --steps "$steps"

measure() { # NAME RECIPES
  python -m benchmarks.fidelity --model embedded --models "$models" --data "$data" --lengths 4096,7168 --limit "$limit" \
    --workers "$workers" --out "$out/$1" --recipes "$2" | tee "$out/$1.log"
}
measure untrained "exact,k8v8,k4v4,k4v4h,k4v3h,k3v3,k3v3h,k2v2,k2v2h,keep50:streaming+k4v4h,keep30:streaming+k4v4h,\
keep50:random+k4v4h,keep30:random+k4v4h,keep50:norm+k4v4h,A10,A20,A35,B10,B20,B35,linear35,linear40,linear45,\
linear35+k4v4h,linear35r2+k4v4h,linear40r2+k4v4h,linear45r3+k4v4h,keep50,keep30,keep60+k8v4h,keep50+k8v8h,\
keep50+k8v4h,keep50+k4v4h,keep40+k4v4h,keep30+k4v4h,\
keep30+k4v4h+near4,16,keep28+k4v4h+near4,32,keep27+k4v4h+near4,32,keep25+k4v4h+near4,32"
wait
measure adapted "exact,linear35+adapter=linear35-0,linear35+adapter=linear35-1,linear35+adapter=linear35-2,\
linear35+adapter=linear35-0+k4v4h,linear35,linear45+adapter=linear45-0,linear35+adapter=linear35-0+near16,64,A35+adapter=A35-0,A35+adapter=A35-1,A35+adapter=A35-2,adapter=dense-0,\
adapter=dense-1,adapter=dense-2,A35+adapter=A35-paper,B35+adapter=B35-0,A35+adapter=A35-0+k4v4h,\
A35+adapter=A35-rounded+k4v4h,A35+adapter=A35-0+keep50+k4v4h,A35+adapter=A35-near64+near16,64"
