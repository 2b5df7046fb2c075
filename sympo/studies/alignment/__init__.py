"""Alignment studies: SFT, preference training, sampling and metrics; one record per policy.

A study is a config and a function that builds its worlds: `gold` and `offline` (hh and
ultrafeedback). From there, `sweep.run_sweep` goes from the config to the records:

- `config` lists the runs, and says what the world of each one is;
- `world` holds what the runs of one seed share, and adds the reference pass;
- `training` trains the SFT model, and a policy on preference pairs;
- `sampling` draws answers, and measures KL and win rates on them;
- `judging` asks a language model about answers that records keep, after training.
"""
