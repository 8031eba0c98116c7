// What the JVM asks of an emulator: null pointers found by SIGSEGV, stacks by guard pages, safepoints by pages made unreadable,
// compiled code that is patched and thrown away under running threads. Prints "java ok".
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;
import java.util.stream.*;

public class Stress {
    static void check(boolean ok, String what) {
        if (!ok)
            throw new AssertionError(what);
    }

    static class Node {
        Node left, right;
        int v = 1;
        int sum() { return left == null ? v : v + left.sum() + right.sum(); }
    }

    static Node tree(int depth) {
        Node n = new Node();
        if (depth > 0) {
            n.left = tree(depth - 1);
            n.right = tree(depth - 1);
        }
        return n;
    }

    static int nulls(Node[] nodes, int rounds) {
        int caught = 0;
        for (int i = 0; i < rounds; i++)
            try {
                caught += nodes[i & 7].v;
            } catch (NullPointerException e) {
                caught += 10;
            }
        return caught;
    }

    static void faults() {
        Node[] nodes = new Node[8];
        for (int i = 0; i < 7; i++)
            nodes[i] = new Node();
        check(nulls(nodes, 8000) == 17000, "null pointers");
        int zero = 0, caught = 0;
        for (int i = 0; i < 2000; i++)
            try {
                caught += 5 / zero;
            } catch (ArithmeticException e) {
                caught++;
            }
        check(caught == 2000, "divisions");
    }

    static int depth;
    static int deep(int n) { depth = n; return n + deep(n + 1) * 3; }

    static void overflow() {
        for (int i = 0; i < 20; i++)
            try {
                deep(0);
                check(false, "no stack overflow");
            } catch (StackOverflowError e) {
                check(depth > 500, "depth " + depth);
            }
    }

    interface Shape { double area(double x); }
    static class Square implements Shape { public double area(double x) { return x * x; } }
    static class Circle implements Shape { public double area(double x) { return x * x * 3; } }
    static class Line implements Shape { public double area(double x) { return 0; } }

    static double areas(Shape s, int n) {
        double a = 0;
        for (int i = 0; i < n; i++)
            a += s.area(i & 15);
        return a;
    }

    static void deoptimised() {             // calls that were of one target, then of two, then of many
        double all = 0;
        for (Shape s : new Shape[] { new Square(), new Circle(), new Line(), x -> 1 })
            for (int k = 0; k < 20; k++)
                all += areas(s, 16000);
        check(all == 20 * (1240000.0 + 3 * 1240000 + 0 + 16000), "areas " + all);
    }

    static void threads() throws Exception {
        AtomicInteger atomic = new AtomicInteger();
        int[] plain = new int[1];
        ReentrantLock lock = new ReentrantLock();
        ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
        List<Thread> all = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            Thread t = new Thread(() -> {
                for (int k = 0; k < 3000; k++) {
                    atomic.incrementAndGet();
                    synchronized (plain) { plain[0]++; }
                    lock.lock();
                    try { map.merge(k % 100, 1, Integer::sum); } finally { lock.unlock(); }
                }
            });
            t.start();
            all.add(t);
        }
        for (Thread t : all)
            t.join();
        check(atomic.get() == 18000 && plain[0] == 18000, "counters");
        check(map.values().stream().mapToInt(x -> x).sum() == 18000, "map");
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> sums = new ArrayList<>();
        for (int i = 0; i < 20; i++)
            sums.add(pool.submit(() -> tree(10).sum()));
        for (Future<Integer> f : sums)
            check(f.get() == 2047, "tree");
        pool.shutdownNow();
        Thread sleeper = new Thread(() -> { try { Thread.sleep(1000000); } catch (InterruptedException e) { plain[0] = -1; } });
        sleeper.start();
        sleeper.interrupt();
        sleeper.join();
        check(plain[0] == -1, "interrupt");
    }

    static volatile boolean stop;
    static void safepoints() throws Exception { // loops are stopped for collections and stack traces
        stop = false;
        AtomicLong rounds = new AtomicLong();
        Thread[] all = new Thread[3];
        for (int i = 0; i < all.length; i++) {
            final double x = i + 1;
            all[i] = new Thread(() -> {
                while (!stop) {
                    double y = x;
                    for (int k = 0; k < 20000; k++)
                        y = y * 0.5 + x;
                    check(y == 2 * x, "floating point");
                    rounds.incrementAndGet();
                }
            });
            all[i].start();
        }
        for (int i = 0; i < 5; i++) {
            System.gc();
            check(all[i % 3].getStackTrace() != null, "trace");
        }
        stop = true;
        for (Thread t : all)
            t.join();
        check(rounds.get() > 0, "rounds");
    }

    static void collected() {
        List<byte[]> keep = new ArrayList<>();
        Map<String, Node> named = new HashMap<>();
        for (int i = 0; i < 20000; i++) {
            keep.add(new byte[1000]);
            if (keep.size() > 2000)
                keep.subList(0, 1500).clear();
            named.put("n" + i % 500, tree(3));
        }
        check(named.values().stream().allMatch(n -> n.sum() == 15), "survivors");
    }

    static void computed() throws Exception {
        check(IntStream.range(0, 100000).parallel().filter(i -> i % 3 == 0).sum() == 1666683333, "streams");
        byte[] d = java.security.MessageDigest.getInstance("SHA-256").digest("rhea".repeat(10000).getBytes());
        check(String.format("%02x%02x%02x%02x", d[0], d[1], d[2], d[3]).equals("6b126a7a"), "digest");
        java.math.BigInteger f = java.math.BigInteger.ONE;
        for (int i = 1; i <= 500; i++)
            f = f.multiply(java.math.BigInteger.valueOf(i));
        check(f.toString().length() == 1135, "500!");
        check("a1b22c333".replaceAll("[0-9]+", "#").equals("a#b#c#"), "regex");
    }

    interface Part { void run() throws Exception; }
    public static void main(String[] args) throws Exception {
        Part[] parts = { Stress::faults, Stress::overflow, Stress::deoptimised, Stress::threads, Stress::safepoints, Stress::collected,
                         Stress::computed };
        for (Part p : parts) {
            long start = System.nanoTime();
            p.run();
            if (System.getenv("VERBOSE") != null)
                System.out.println((System.nanoTime() - start) / 1000000 + " ms");
        }
        System.out.println("java ok");
    }
}
