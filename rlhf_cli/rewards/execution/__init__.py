"""How a reward is asked, so that a failure is never a score.

scorer    asks a reward, and adds up what its parts say
retrying  asks one source, again where there was trouble
process   a function's process: started, asked with a deadline, killed
worker    what runs in that process
"""
