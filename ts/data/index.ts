/** Data sets and loaders. */

export { type Dataset, TensorDataset } from './dataset.ts'
export { DataLoader, type DataLoaderOptions } from './loader.ts'
