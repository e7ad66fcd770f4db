import Foundation
import Support
import Torch

/// Checks libtorch, the driver and the GPUs.
struct DeviceChecks {
  private let device: Device?

  init(_ device: Device?) { self.device = device }

  func run() -> [Check] {
    let found = Result { try Device.cudaCount() }
    if case .failure(let error as TorchError) = found, error.kind == .io {
      return [Check("libtorch", .problem, failure: error.message)]
    }
    var checks = [libtorch]
    let driver = driverCheck(found)
    checks.append(driver)
    if case .cuda = device, driver.status == .problem { return checks }
    for device in devices((try? found.get()) ?? 0) {
      checks += gpuChecks(device)
    }
    if case .success(let count) = found, device != .cpu {
      let isUsable = count > 0 && !checks.contains { $0.status == .problem }
      checks.append(collectives(isUsable ? devices(count).first : nil))
    }
    return checks
  }

  private var libtorch: Check {
    let path = LibTorch.path
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().resolvingSymlinksInPath()
      .path
    return Check(
      "libtorch", .ok, "\(LibTorch.version)\(path.isEmpty ? "" : " from \(folder)")",
      values: ["version": .string(LibTorch.version), "path": .string(path)])
  }

  /// The GPUs to check: the requested one, or all.
  private func devices(_ count: Int) -> [Device] {
    switch device {
    case .cpu: []
    case .cuda: device.map { [$0] } ?? []
    case nil: (0..<count).map { .cuda($0) }
    }
  }

  /// Whether CUDA is installed, and the driver is new enough for it and finds a GPU.
  private func driverCheck(_ found: Result<Int, any Error>) -> Check {
    let driver = CUDADriver()
    let values: JSONObject = [
      "version": JSON(driver.version), "supported_cuda": JSON(driver.supportedCUDA),
      "needed_cuda": JSON(driver.neededCUDA), "gpus": JSON((try? found.get()) ?? 0),
    ]
    // Without a driver, this is a machine for the CPU, unless a GPU was asked for.
    let hasDriver = driver.version != nil || driver.supportedCUDA != nil
    let isNeeded = if case .cuda = device { true } else { device == nil && hasDriver }
    let failure: (any Error)? =
      switch found {
      case .failure(let error): error
      case .success(0): Result { try Device.cuda(0).prepare() }.failure
      case .success: nil
      }
    if let failure {
      let message = (failure as? TorchError)?.message ?? describe(failure)
      return Check("GPU", isNeeded ? .problem : .note, failure: message, values: values)
    }
    var text = "NVIDIA driver\(driver.version.map { " \($0)" } ?? "")"
    if let supported = driver.supportedCUDA { text += " supports CUDA \(supported)" }
    if let needed = driver.neededCUDA { text += ", libtorch uses CUDA \(needed)" }
    return Check("driver", .ok, text, values: values)
  }

  /// Whether several GPUs can exchange tensors without the host.
  ///
  /// - Parameter device: The GPU to test; nil without a working one.
  private func collectives(_ device: Device?) -> Check {
    func message(_ error: any Error) -> String {
      (error as? TorchError)?.message ?? describe(error)
    }
    let implementation: String
    do {
      implementation = try GPUCollectives.load()
    } catch {
      return Check(
        "collectives", .note,
        failure: "several GPUs would exchange tensors through host memory: \(message(error))")
    }
    let values: JSONObject = ["implementation": .string(implementation)]
    do {
      if let device { try GPUCollectives.tryOut(on: device) }
    } catch {
      return Check(
        "collectives", .note, failure: "\(implementation) does not work: \(message(error))",
        values: values)
    }
    return Check(
      "collectives", .ok,
      "\(implementation) exchanges tensors between GPUs\(device.map { ", tried on \($0)" } ?? "")",
      values: values)
  }

  private func gpuChecks(_ device: Device) -> [Check] {
    let name = device.description
    do {
      try device.prepare()
      guard let gpu = try device.gpu() else { return [] }
      return [
        identity(device, gpu), try dtypes(device), try attention(device),
        try TransferRate.check(device), ModelNeeds.check(device, gpu),
      ]
    } catch {
      let message = (error as? TorchError)?.message ?? describe(error)
      return [Check(name, .problem, failure: message)]
    }
  }

  private func identity(_ device: Device, _ gpu: GPU) -> Check {
    var text = gpu.name.isEmpty ? "a GPU without a name" : gpu.name
    if let capability = gpu.capability { text += ", compute capability \(capability)" }
    text += ", \(gigabytes(gpu.freeBytes)) of \(gigabytes(gpu.totalBytes)) free"
    // CUDA itself takes less than a tenth of any supported GPU.
    let isShared = Double(gpu.freeBytes) < 0.9 * Double(gpu.totalBytes)
    return Check(
      device.description, isShared ? .note : .ok, text,
      remedy: isShared ? "`nvidia-smi` lists the processes that use the rest" : nil,
      values: [
        "gpu": .string(gpu.name), "capability": JSON(gpu.capability?.description),
        "multiprocessors": JSON(gpu.multiprocessors), "free_bytes": JSON(gpu.freeBytes),
        "total_bytes": JSON(gpu.totalBytes),
      ])
  }

  private func dtypes(_ device: Device) throws -> Check {
    let problem = try device.bfloat16Problem()
    let stored = "weights in fp8 and int8 are stored in 8 bits and dequantized for each use"
    return Check(
      "\(device) dtypes", problem == nil ? .ok : .note,
      problem ?? "computes in bfloat16, float16 and float32; \(stored)",
      remedy: problem.map { _ in
        "Train with `mixedPrecision` fp16, and give other commands `dtype` float32"
      },
      values: ["bfloat16": .bool(problem == nil)])
  }

  /// Which kernels compute attention in the dtype that models compute in.
  private func attention(_ device: Device) throws -> Check {
    let isHalf = try device.bfloat16Problem() != nil
    let dtype: DType = isHalf ? .float16 : .bfloat16
    let tokens = try Tensor.zeros([1, 32, 128, 128], dtype: dtype, device: device)
    let mask = try Tensor.zeros([1, 1, 128, 128], dtype: dtype, device: device)
    let plain = try AttentionKernel.choice(tokens, tokens, tokens)
    let masked = try AttentionKernel.choice(tokens, tokens, tokens, mask: mask)
    let isFused = plain != .unfused && masked != .unfused
    return Check(
      "\(device) attention", isFused ? .ok : .note,
      "\(dtype): \(plain.rawValue); with a mask: \(masked.rawValue)"
        + (isFused ? "" : ". Unfused attention needs memory for the square of the tokens"),
      values: [
        "dtype": .string(dtype.rawValue), "kernel": .string(plain.rawValue),
        "masked_kernel": .string(masked.rawValue),
      ])
  }
}

extension Result {
  fileprivate var failure: Failure? {
    if case .failure(let error) = self { error } else { nil }
  }
}
