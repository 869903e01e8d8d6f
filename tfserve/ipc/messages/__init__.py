"""All messages between the processes of the server, one small class each.

JSON that only passes through (a job's request, its result, its error) travels as `bytes` of JSON text: web and worker
read it, the supervisor in between only stores it.
"""

from __future__ import annotations

from tfserve.ipc.messages.access import *
from tfserve.ipc.messages.base import *
from tfserve.ipc.messages.cluster import *
from tfserve.ipc.messages.content import *
from tfserve.ipc.messages.declarations import *
from tfserve.ipc.messages.job_requests import *
from tfserve.ipc.messages.jobs import *
from tfserve.ipc.messages.limits import *
from tfserve.ipc.messages.model_jobs import *
from tfserve.ipc.messages.models import *
from tfserve.ipc.messages.placement import *
from tfserve.ipc.messages.scripts import *
from tfserve.ipc.messages.training import *
