"""The operations of TensorFlow by how they treat the dimensions of their inputs. What is not listed may mix rows."""

from __future__ import annotations

#: compute each element from those at the same position of the inputs, which are broadcast
BY_ELEMENT = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "AddN",
        "AddV2",
        "Angle",
        "Asin",
        "Asinh",
        "Atan",
        "Atan2",
        "Atanh",
        "BesselI0e",
        "BesselI1e",
        "Betainc",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Bucketize",
        "Cast",
        "Ceil",
        "CheckNumerics",
        "CheckNumericsV2",
        "ClipByValue",
        "Complex",
        "ComplexAbs",
        "Conj",
        "Cos",
        "Cosh",
        "DebugGradientIdentity",
        "Digamma",
        "Div",
        "DivNoNan",
        "Elu",
        "EnsureShape",
        "Equal",
        "Erf",
        "Erfc",
        "Erfinv",
        "Exp",
        "Expm1",
        "FakeQuantWithMinMaxArgs",
        "FakeQuantWithMinMaxVars",
        "Floor",
        "FloorDiv",
        "FloorMod",
        "Greater",
        "GreaterEqual",
        "Identity",
        "Igamma",
        "Igammac",
        "Imag",
        "Inv",
        "Invert",
        "IsFinite",
        "IsInf",
        "IsNan",
        "LeakyRelu",
        "LeftShift",
        "Less",
        "LessEqual",
        "Lgamma",
        "Log",
        "Log1p",
        "LogicalAnd",
        "LogicalNot",
        "LogicalOr",
        "Maximum",
        "Minimum",
        "Mod",
        "Mul",
        "MulNoNan",
        "Neg",
        "NextAfter",
        "NotEqual",
        "OnesLike",
        "PlaceholderWithDefault",
        "Polygamma",
        "Pow",
        "PreventGradient",
        "Real",
        "RealDiv",
        "Reciprocal",
        "RegexFullMatch",
        "RegexReplace",
        "Relu",
        "Relu6",
        "RightShift",
        "Rint",
        "Round",
        "Rsqrt",
        "Select",
        "SelectV2",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Snapshot",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Square",
        "SquaredDifference",
        "StaticRegexFullMatch",
        "StaticRegexReplace",
        "StopGradient",
        "StringJoin",
        "StringLength",
        "StringLower",
        "StringStrip",
        "StringToHashBucket",
        "StringToHashBucketFast",
        "StringToHashBucketStrong",
        "StringToNumber",
        "StringUpper",
        "Sub",
        "Substr",
        "Tan",
        "Tanh",
        "TruncateDiv",
        "TruncateMod",
        "UnicodeTranscode",
        "Xdivy",
        "Xlog1py",
        "Xlogy",
        "ZerosLike",
        "Zeta",
        "AsString",
        "DecodeBase64",
        "EncodeBase64",
    ]
)

#: the same, with further dimensions added at the end
ADDS_DIMENSIONS = frozenset({"DecodeRaw", "DecodePaddedRaw"})

#: treat each element of the first dimension of one of their inputs alone; the other inputs are weights
BY_EXAMPLE = frozenset(
    [
        "AvgPool",
        "AvgPool3D",
        "BiasAdd",
        "BiasAddV1",
        "Conv",
        "Conv2D",
        "Conv3D",
        "DepthToSpace",
        "DepthwiseConv2dNative",
        "Dilation2D",
        "ExtractImagePatches",
        "FusedBatchNorm",
        "FusedBatchNormV2",
        "FusedBatchNormV3",
        "LRN",
        "MaxPool",
        "MaxPool3D",
        "MaxPoolV2",
        "MaxPoolWithArgmax",
        "SpaceToDepth",
        "ResizeArea",
        "ResizeBicubic",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "ScaleAndTranslate",
        "RGBToHSV",
        "HSVToRGB",
        "AdjustHue",
        "AdjustSaturation",
        "Conv2DBackpropInput",
        "Conv3DBackpropInputV2",
        "DepthwiseConv2dNativeBackpropInput",
        "ImageProjectiveTransformV2",
        "ImageProjectiveTransformV3",
        "CombinedNonMaxSuppression",
        "SimpleMLInferenceOp",
        "SimpleMLInferenceOpWithHandle",
        "SimpleMLInferenceLeafIndexOpWithHandle",
        "Mfcc",
        "BoostedTreesPredict",
        "BoostedTreesBucketize",
        "_FusedConv2D",
        "_FusedBatchNormEx",
    ]
)

#: find each element in a table
LOOKS_UP = frozenset({"LookupTableFind", "LookupTableFindV2"})

#: reduce the dimensions that their second input names
REDUCES = frozenset(["Sum", "Mean", "Prod", "Max", "Min", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin"])

#: work along the dimensions that their second input names (Roll: the third), which stay
ALONG = frozenset({"Cumsum", "Cumprod", "CumulativeLogsumexp", "ReverseV2", "Roll"})

#: mix this number of last dimensions only
MIXES_LAST = {
    "Softmax": 1, "LogSoftmax": 1, "TopKV2": 1, "TopK": 1, "FFT": 1, "IFFT": 1, "RFFT": 1, "IRFFT": 1, "FFT2D": 2,
    "IFFT2D": 2, "RFFT2D": 2, "IRFFT2D": 2, "MatrixBandPart": 2, "Cholesky": 2, "MatrixInverse": 2,
    "MatrixDeterminant": 2, "LogMatrixDeterminant": 2, "Qr": 2, "Svd": 2, "SelfAdjointEigV2": 2, "MatrixExponential": 2,
    "AdjustContrastv2": 3, "NthElement": 1, "MatrixDiag": 1,
    "MatrixDiagV2": 2, "MatrixDiagV3": 2, "MatrixDiagPart": 2, "MatrixDiagPartV2": 2, "MatrixDiagPartV3": 2,
}  # fmt: skip

#: these may combine all elements, whatever their arguments
COMBINES = {
    "Unique": "it compares all rows", "UniqueV2": "it compares all rows", "UniqueWithCounts": "it compares all rows",
    "UniqueWithCountsV2": "it compares all rows", "Where": "its result has one length for all rows",
    "RandomShuffle": "it shuffles rows", "PyFunc": "it calls Python", "EagerPyFunc": "it calls Python",
    "DynamicPartition": "it sorts rows", "DynamicStitch": "it rearranges rows", "L2Loss": "it sums over all rows",
}  # fmt: skip

#: pass all of their inputs to a function
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
IFS = frozenset({"If", "StatelessIf"})
CASES = frozenset({"Case", "StatelessCase"})
WHILES = frozenset({"While", "StatelessWhile"})
WITH_FUNCTIONS = CALLS | IFS | CASES | WHILES

_RANDOM = ("Random", "StatelessRandom", "StatefulRandom", "Stateful", "TruncatedNormal", "Multinomial", "Parameterized")


def draws(kind: str) -> bool:
    """Whether operations of this type draw random numbers."""
    return kind.startswith(_RANDOM) and "Call" not in kind
