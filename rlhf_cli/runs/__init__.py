"""A run's folder: its files, how they are written, and how they are read. No torch.

folder      every file name in a run's folder and a sweep's
disk        the changes a save makes on disk; tests make any of them fail
lock        one process a folder
checkpoint  atomic, verified checkpoints
json_files  JSON read though it may be missing or foreign, and written whole
logbook     the log of a run as it goes: jsonl files, which a resume cuts back to where the checkpoint saw them
sinks       curves for TensorBoard and Weights & Biases
result      how a run ended
no_signal   the steps that learned nothing from the reward
resume      which run, checkpoint or adapter a path means
binding     config.json, run.json and result.json are those that the run wrote
changes     which settings a resumed run may change
listing     the runs below a folder, and how each stands
reading     a run's whole folder; files that are missing or corrupt are skipped
"""
