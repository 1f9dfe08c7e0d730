"""The folder of a run: its files, and how to write and read them. No torch.

folder      every file name in a run's folder and a sweep's
disk        the changes that a save makes on disk; tests make any of them fail
lock        one process a folder
checkpoint  atomic, verified checkpoints
json_files  read JSON that may be missing or foreign; write it whole
sharing     what trials of a sweep share: the evaluation of the untouched policy
logbook     the logs of a run: jsonl files, which a resume cuts back to their length at the checkpoint
sinks       curves for TensorBoard and Weights & Biases
result      how a run ended
no_signal   the steps that learned nothing from the reward
resume      find the run, checkpoint or adapter that a path means
forking     fork a run: copy it as it was at a checkpoint, with other settings
binding     check that config.json, run.json and result.json are those that the run wrote
trail       check every file of a run against the hashes that the run left of it
kind        which verb began a run
changes     which settings a resumed run may change
listing     list the runs below a folder, each with its state
reading     read the whole folder of a run; skip files that are missing or corrupt
"""
