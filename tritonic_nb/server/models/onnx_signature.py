"""Prints an ONNX file's inputs, outputs and metadata as JSON.

Run as a program, in the environment that will serve the file, because a broken
or hostile file can take a process down.
"""

import json
import sys

import onnxruntime


def describe(nodes):
    """Return names, ONNX types and dimensions; a dynamic one is its symbol or null."""
    return [{"name": node.name, "type": node.type, "shape": list(node.shape)} for node in nodes]


def main():
    """Read the file named on the command line."""
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    # Only the signature is wanted: optimising a large model would take seconds.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            sys.argv[1], sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        print(json.dumps({"error": str(error)}))
        return
    print(
        json.dumps(
            {
                "inputs": describe(session.get_inputs()),
                "outputs": describe(session.get_outputs()),
                "metadata": session.get_modelmeta().custom_metadata_map,
            }
        )
    )


if __name__ == "__main__":
    main()
