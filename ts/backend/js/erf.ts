/**
 * The complementary error function to about one unit in the last place of f64, and what is built on it: erf, and the
 * normal distribution function Φ, whose left tail keeps its relative accuracy. Rational approximations of W. J. Cody,
 * "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), in his three ranges.
 */

const SMALL = 0.46875
const INV_SQRT_PI = 0.5641895835477563

/** erfc is below the smallest subnormal from here on. */
const UNDERFLOW = 27.3

/** erf itself, for |x| ≤ 0.46875. */
function erfSmall(x: number): number {
  const s = x * x
  const p =
    (((1.85777706184603153e-1 * s + 3.1611237438705656) * s + 1.13864154151050156e2) * s + 3.77485237685302021e2) * s +
    3.20937758913846947e3
  const q =
    (((s + 2.36012909523441209e1) * s + 2.44024637934444173e2) * s + 1.28261652607737228e3) * s + 2.84423683343917062e3
  return (x * p) / q
}

/** erfc for x > 0.46875. */
function erfcLarge(x: number): number {
  if (x > UNDERFLOW) return 0
  return x <= 4 ? gaussian(x) * erfcxMiddle(x) : gaussian(x) * erfcxTail(x)
}

/** e^(x²) erfc(x) for 0.46875 ≤ x ≤ 4. */
function erfcxMiddle(x: number): number {
  let p = 2.15311535474403846e-8 * x + 5.64188496988670089e-1
  p = p * x + 8.88314979438837594
  p = p * x + 6.61191906371416295e1
  p = p * x + 2.98635138197400131e2
  p = p * x + 8.8195222124176909e2
  p = p * x + 1.71204761263407058e3
  p = p * x + 2.05107837782607147e3
  p = p * x + 1.23033935479799725e3
  let q = x + 1.57449261107098347e1
  q = q * x + 1.17693950891312499e2
  q = q * x + 5.37181101862009858e2
  q = q * x + 1.62138957456669019e3
  q = q * x + 3.29079923573345963e3
  q = q * x + 4.36261909014324716e3
  q = q * x + 3.43936767414372164e3
  q = q * x + 1.23033935480374942e3
  return p / q
}

/** e^(x²) erfc(x) for x > 4. */
function erfcxTail(x: number): number {
  const s = 1 / (x * x)
  let p = 1.63153871373020978e-2 * s + 3.05326634961232344e-1
  p = p * s + 3.60344899949804439e-1
  p = p * s + 1.25781726111229246e-1
  p = p * s + 1.60837851487422766e-2
  p = p * s + 6.58749161529837803e-4
  let q = s + 2.56852019228982242
  q = q * s + 1.87295284992346047
  q = q * s + 5.27905102951428412e-1
  q = q * s + 6.05183413124413191e-2
  q = q * s + 2.33520497626869185e-3
  return (INV_SQRT_PI - (s * p) / q) / x
}

/** e^(−x²) without the rounding error of x²: x is split so that the square of its leading part is exact. */
function gaussian(x: number): number {
  const lead = Math.trunc(x * 16) / 16
  return Math.exp(-lead * lead) * Math.exp(-(x - lead) * (x + lead))
}

/** The error function. */
export function erf(x: number): number {
  if (Math.abs(x) <= SMALL) return erfSmall(x)
  if (x > 0) return 1 - erfcLarge(x)
  return x < 0 ? erfcLarge(-x) - 1 : x
}

/** 1 − erf(x), without cancellation for large x. */
export function erfc(x: number): number {
  if (Math.abs(x) <= SMALL) return 1 - erfSmall(x)
  if (x > 0) return erfcLarge(x)
  return x < 0 ? 2 - erfcLarge(-x) : x
}

/** Φ(z), the normal distribution function. */
export function normalCdf(z: number): number {
  return 0.5 * erfc(-z * Math.SQRT1_2)
}
