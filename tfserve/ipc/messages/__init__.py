"""Everything that processes say to each other: a closed set, one small class each.

JSON that only passes through (a request's values, a result, a job's error) travels as `bytes` of JSON text: web and
worker know what it means, the supervisor in between only keeps it.
"""

from __future__ import annotations

from tfserve.ipc.messages.base import AUTO, FINISHED_STATES, READING, Done, Failed, JobKind, JobState
from tfserve.ipc.messages.jobs import (
    CancelJob,
    CreateWorkspace,
    DestroyWorkspace,
    GetMetrics,
    GetServer,
    GetVariables,
    GetWorkspace,
    IsReady,
    JobAnswer,
    ListWorkspaces,
    Metrics,
    ReadStatistics,
    RestartWorkspace,
    Statistics,
    SubmitJob,
    TurnService,
    WaitChange,
    WaitOutput,
    WebReady,
)
from tfserve.ipc.messages.models import (
    BecomeModel,
    Convert,
    Converted,
    DrainModel,
    GetModels,
    IdentifyModel,
    IdleSince,
    ModelChanged,
    ModelLoaded,
    ModelOptions,
    Models,
    ModelVersion,
    Predict,
    Prediction,
    Predictions,
    ReadSamples,
    Samples,
    SamplesSeen,
    ScaleModel,
    WakeModel,
    WarmUpStep,
)
from tfserve.ipc.messages.scripts import (
    BecomeHost,
    BecomeScripts,
    ClearVariables,
    DropWorkspace,
    Interrupt,
    OpenWorkspace,
    ReadVariables,
    RunScript,
    ScriptEnded,
    Stop,
    Variables,
    WorkerReady,
)
from tfserve.ipc.messages.training import (
    CancelTask,
    ExamineProject,
    FeedbackKept,
    KeepFeedback,
    Progress,
    ProjectExamined,
    ResumeTask,
    StartTraining,
    Train,
    TrainingEnded,
)

Message = (
    Done
    | Failed
    | WebReady
    | GetServer
    | GetMetrics
    | Metrics
    | IsReady
    | ListWorkspaces
    | TurnService
    | CreateWorkspace
    | DestroyWorkspace
    | RestartWorkspace
    | GetWorkspace
    | SubmitJob
    | JobAnswer
    | CancelJob
    | StartTraining
    | CancelTask
    | ResumeTask
    | KeepFeedback
    | FeedbackKept
    | GetVariables
    | WaitOutput
    | WaitChange
    | GetModels
    | Models
    | ModelChanged
    | DrainModel
    | ReadStatistics
    | Statistics
    | ScaleModel
    | WorkerReady
    | BecomeScripts
    | BecomeHost
    | BecomeModel
    | ModelLoaded
    | ReadSamples
    | IdleSince
    | WakeModel
    | WarmUpStep
    | Samples
    | SamplesSeen
    | RunScript
    | ScriptEnded
    | ClearVariables
    | ReadVariables
    | Variables
    | Interrupt
    | DropWorkspace
    | OpenWorkspace
    | Predict
    | Predictions
    | ExamineProject
    | ProjectExamined
    | Train
    | Progress
    | TrainingEnded
    | IdentifyModel
    | Convert
    | Converted
    | Stop
)

__all__ = [
    "AUTO",
    "FINISHED_STATES",
    "READING",
    "BecomeHost",
    "BecomeModel",
    "BecomeScripts",
    "CancelJob",
    "CancelTask",
    "ClearVariables",
    "Convert",
    "Converted",
    "CreateWorkspace",
    "DestroyWorkspace",
    "Done",
    "DrainModel",
    "DropWorkspace",
    "ExamineProject",
    "Failed",
    "FeedbackKept",
    "GetMetrics",
    "GetModels",
    "GetServer",
    "GetVariables",
    "GetWorkspace",
    "IdentifyModel",
    "IdleSince",
    "Interrupt",
    "IsReady",
    "JobAnswer",
    "JobKind",
    "JobState",
    "KeepFeedback",
    "ListWorkspaces",
    "Message",
    "Metrics",
    "ModelChanged",
    "ModelLoaded",
    "ModelOptions",
    "ModelVersion",
    "Models",
    "OpenWorkspace",
    "Predict",
    "Prediction",
    "Predictions",
    "Progress",
    "ProjectExamined",
    "ReadSamples",
    "ReadStatistics",
    "ReadVariables",
    "RestartWorkspace",
    "ResumeTask",
    "RunScript",
    "Samples",
    "SamplesSeen",
    "ScaleModel",
    "ScriptEnded",
    "StartTraining",
    "Statistics",
    "Stop",
    "SubmitJob",
    "Train",
    "TrainingEnded",
    "TurnService",
    "Variables",
    "WaitChange",
    "WaitOutput",
    "WakeModel",
    "WarmUpStep",
    "WebReady",
    "WorkerReady",
]
