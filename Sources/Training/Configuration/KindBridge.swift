import NN
extension OptimizerKind { init(_ t: TrainingConfiguration.Optimization.OptimizerType) { self = OptimizerKind(rawValue: t.rawValue)! } }
extension ScheduleKind { init(_ t: TrainingConfiguration.Optimization.SchedulerType) { self = ScheduleKind(rawValue: t.rawValue)! } }
