/** Data sets and loaders. */

import '../ops/methods.ts'

export { type Dataset, type Rows, TensorDataset } from './dataset.ts'
export { DataLoader, type DataLoaderOptions } from './loader.ts'
