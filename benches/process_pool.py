"""The jobs of process_pool.rs by CPython's multiprocessing: prints the seconds that they take."""

import sys
import time
from multiprocessing import Pool


def square(n):
    return n * n


def reverse(data):
    return data[::-1]


def main():
    workers, kind, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with Pool(workers) as pool:
        # As there: the workers have been made.
        pool.map(square, range(workers))
        data = bytes([7]) * 100_000
        start = time.perf_counter()
        if kind == "apply":
            for n in range(count):
                assert pool.apply(square, (n,)) == n * n
        elif kind == "apply_async":
            jobs = [pool.apply_async(square, (n,)) for n in range(count)]
            for n, job in enumerate(jobs):
                assert job.get() == n * n
        elif kind == "map":
            assert len(pool.map(square, range(count))) == count
        else:
            assert len(pool.map(reverse, [data] * count)) == count
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
