/** Data sets and loaders. */

import '../ops/methods.ts'

export { type Dataset, TensorDataset } from './dataset.ts'
export { DataLoader, type DataLoaderOptions } from './loader.ts'
