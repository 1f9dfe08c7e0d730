"""A run's folder: its files, how they are written, and how they are read. No torch.

folder      every file name in a run's folder and a sweep's
disk        the changes a save makes on disk; tests make any of them fail
lock        one process a folder
checkpoint  atomic, verified checkpoints
json_files  JSON read though it may be missing or foreign, and written whole
jsonl       files of one JSON object a line, cut back to where a checkpoint saw them
logbook     the log of a run as it goes
sinks       curves for TensorBoard and Weights & Biases
result      how a run ended
resume      which run and checkpoint to continue
changes     which settings a resumed run may change
adapter     which adapter a path means
listing     the runs below a folder, and how each stands
reading     a run's whole folder; files that are missing or corrupt are skipped
"""
