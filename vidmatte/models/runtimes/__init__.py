"""What runs a network: onnxruntime, OpenVINO, CPU and CUDA."""
